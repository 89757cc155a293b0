//! Fused operations, fast on the CPU.
//!
//! [`cpu`] holds the kernels, over slices; `ops` (feature `ops`, on by default) puts them behind Burn's tensors
//! and tape. [`simd`] chooses vector instructions at run time, [`threads`] runs tasks, [`memory`] keeps memory.

pub mod cpu;
pub mod math;
pub mod memory;
#[cfg(feature = "ops")]
pub mod ops;
pub mod profile;
pub mod simd;
pub mod threads;

pub use cpu::activation::Activation;
pub use cpu::gemm::Precision;
pub use simd::Level;
