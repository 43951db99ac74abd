//! Images in and out, as other tools and registries make and take them.

mod registry;
