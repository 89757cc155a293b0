//! What can go wrong with a model.

use jishi_recipe::Problems;

/// An error of building or loading a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Bad input: a configuration that makes no model, or weights that do not fit one.
    #[error(transparent)]
    Bad(#[from] Problems),
}
