//! Images that other tools make are read in every form, and the tree is what umoci unpacks, entry by entry. What is written, they read.

mod compare;
mod layer;
mod made;
mod reading;
mod tools;
mod writing;
