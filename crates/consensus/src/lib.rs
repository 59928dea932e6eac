//! How the validators of a native chain agree on blocks.
