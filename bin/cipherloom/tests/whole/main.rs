//! The binary as people run it, from outside: demo, restart after a kill, published libraries, bad usage.

mod command_line;
mod demo;
mod killed;
mod process;
mod published_library;
mod published_sdks;
