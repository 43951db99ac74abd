//! Whole imports of archives and layouts made by code.

mod archives;
mod building;
mod entries;
mod fuzz;
mod layering;
mod layouts;
mod limits;
mod originals;
mod random;
mod speed;
mod streams;
