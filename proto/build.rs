//! Compiles `proto/` without protoc: protox parses, tonic generates.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/coral/v1/uplink.proto",
        "proto/coral/v1/records.proto",
        "proto/coral/v1/colony.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let encoded = prost::Message::encode_to_vec(&descriptors);
    std::fs::write(out.join("coral_v1.bin"), encoded)?;
    tonic_prost_build::configure()
        .bytes(".coral.v1.Records.bytes")
        .bytes(".coral.v1.Rows.json")
        .bytes(".coral.v1.Chunk.bytes")
        .compile_fds(descriptors)?;
    let profile = "proto/pprof/profile.proto";
    println!("cargo:rerun-if-changed={profile}");
    let descriptors = protox::compile([profile], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
