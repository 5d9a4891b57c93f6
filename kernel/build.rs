//! Links the image by its own map, position independent.
fn main() {
    let map = concat!(env!("CARGO_MANIFEST_DIR"), "/image.ld");
    println!("cargo:rerun-if-changed={map}");
    for argument in [
        "-pie",
        "--no-dynamic-linker",
        // Absolute addresses in read-only sections become relative relocations, which start.S applies before anything is
        // read-only.
        "-znotext",
        "-znorelro",
        "--build-id=none",
        "--gc-sections",
        // Relative relocations as an address and bit maps (the generic ELF ABI's SHT_RELR), a fortieth of the size.
        "--pack-dyn-relocs=relr",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{map}");
}
