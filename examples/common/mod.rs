//! What the examples share: digits and other images, networks, the command line, the choice of a backend.
#![allow(dead_code)] // No example uses all of it.

pub mod args;
pub mod arms;
pub mod backend;
pub mod cifar;
pub mod digits;
pub mod folder;
pub mod idx;
pub mod images;
pub mod known;
pub mod mlp;
pub mod png;
pub mod torch_cnn;
