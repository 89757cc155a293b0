//! Fused operations, fast on the CPU.

pub mod cpu;
pub mod math;
pub mod memory;
pub mod simd;
pub mod threads;
