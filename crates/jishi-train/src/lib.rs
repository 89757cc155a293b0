//! The one training loop: steps, optimisers, schedules, checkpoints, exact resume.
