//! Hands the linker script to the guests: position independent, linked at zero, relocated by their own entry code.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rustc-link-arg-bins=-T{folder}/link.ld");
    // Pointers in read-only data are relocated by the guest itself, before anything reads them.
    for argument in [
        "-pie",
        "--no-dynamic-linker",
        "-znotext",
        "-znorelro",
        "--gc-sections",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
