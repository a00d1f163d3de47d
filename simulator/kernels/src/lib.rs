//! simulator/kernels
