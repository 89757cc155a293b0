//! The run folder: manifest, atomic checkpoints, metric log, plots, model card, model package.
