//! Commands under way.
