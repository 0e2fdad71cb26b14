//! The commands as their users meet them: a program, files, pipes and exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audio;
mod graphs;
mod lines;
mod others;
mod outputs;
mod program;
mod wrong_use;
