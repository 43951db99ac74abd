//! Many processes and threads on one store.

mod flights;
