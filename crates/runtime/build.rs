//! Refuses to build for systems that RemoteMedia has not been shown to run on.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = env::var("CARGO_CFG_TARGET_OS").expect("cargo sets it for build scripts");
    if system != "linux" {
        println!(
            "cargo::error=RemoteMedia runs on Linux only and cannot be built for {system}; use a Linux machine or container, \
             or WSL on Windows"
        );
    }
}
