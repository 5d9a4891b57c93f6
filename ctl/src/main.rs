//! `hearth`, the operator's tool.
fn main() {}
