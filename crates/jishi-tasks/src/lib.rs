//! What a task is: example, batch, loss, metrics, prediction.
