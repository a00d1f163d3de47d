//! Rewrites towards the layers of the chip, in the order they are done (quantization.md 1.4, 1 to 21).

mod activation_pool;
pub mod activations;
mod affine_chain;
mod align;
mod bn_pool;
mod brn_pad;
mod channel_reshape;
mod clone_shared;
mod conv3d;
mod conv_gemm;
mod drop_reshape;
mod entry;
mod fuse_bn;
mod gemm_transpose;
mod global_pool;
mod matmul;
mod merge_clips;
mod min_max;
mod pad_transpose;
mod to_flatten;
pub mod unify_pads;
mod upsample;

use super::{Rewrite, StepError, edit};

/// Name and rewrite of each step.
pub const STEPS: &[(&str, Rewrite)] = &[
    ("own constants for every reader", clone_shared::apply),
    ("Reshape of one channel to Transpose", channel_reshape::apply),
    ("Transpose before Pad", pad_transpose::apply),
    ("chains of constants to Add and Mul", affine_chain::apply),
    ("convolutions over time", conv3d::apply),
    ("upsampling by 2 to ConvTranspose", upsample::apply),
    ("explicit pads", unify_pads::apply),
    ("weights of Gemm by rows", gemm_transpose::apply),
    ("Squeeze and Reshape to Flatten", to_flatten::apply),
    ("Min and Max to Clip", min_max::apply),
    ("neighbouring Relu and Clip to one", merge_clips::apply),
    ("means to GlobalAveragePool", global_pool::apply),
    ("Reshape without effect", drop_reshape::apply),
    ("MatMul to Gemm", matmul::apply),
    ("Conv on one pixel to Gemm", conv_gemm::apply),
    ("BatchNormalization before pooling", bn_pool::apply),
    ("BatchNormalization into weights", fuse_bn::apply),
    ("order of the first operators", entry::apply),
    ("factors and offsets into weights", align::apply),
    ("padding with the input's offset", brn_pad::apply),
    ("activations by name", activations::apply),
    ("activations after max pooling", activation_pool::apply),
];
