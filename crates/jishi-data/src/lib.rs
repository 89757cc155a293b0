//! Sources, readers, splits, feature pipelines, the data ledger, batches. No tensors.
