//! Whole imports of archives and layouts made by code.

mod speed;
