//! Compiles the protocol with a compiler written in Rust: building needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["mvccpb.proto", "etcdserverpb.proto", "v3lock.proto", "v3election.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::Codec")
        .bytes(".")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
