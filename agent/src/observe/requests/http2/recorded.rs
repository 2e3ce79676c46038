//! Frames as a client and a server write them, for recorded connections.

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block of literals that nobody keeps, one to a line: `:method GET`.
pub fn block(fields: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in fields.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        out.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            out.push(text.len() as u8);
            out.extend(text.as_bytes());
        }
    }
    out
}

/// HEADERS, whole.
pub fn headers(stream: u32, ends: bool, fields: &str) -> Vec<u8> {
    frame(1, 4 | u8::from(ends), stream, &block(fields))
}

/// DATA.
pub fn data(stream: u32, ends: bool, length: usize) -> Vec<u8> {
    frame(0, u8::from(ends), stream, &vec![b'x'; length])
}

/// A request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, true, &format!(":method GET\n:scheme http\n:path {path}\n:authority x"))
}

/// The head of an RPC.
pub fn call(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, false, &format!(":method POST\n:path {path}\ncontent-type application/grpc"))
}
