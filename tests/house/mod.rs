//! House rules that a compiler does not know, as ordinary tests. They read the source.

mod files;
mod rooms;
mod source;
