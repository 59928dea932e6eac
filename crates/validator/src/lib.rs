//! A validator or full node of a native chain as a process.
