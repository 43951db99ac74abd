//! Images in and out, as other tools make and read them.

mod peers;
