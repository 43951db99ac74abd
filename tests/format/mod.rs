//! The on-disk format: values of `store-format.md` are pinned byte by byte, and damage is refused.

mod damage;
mod roundtrip;
mod segment;
mod store;
mod strategy;
mod vector;
mod vectors;
