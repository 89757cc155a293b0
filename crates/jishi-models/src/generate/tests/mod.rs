mod beam;
mod constraint;
mod generation;
mod sampling;
