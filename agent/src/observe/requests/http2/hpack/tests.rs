//! The examples of RFC 7541, appendix C, and what it has none of.

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, Broken> {
    let mut fields = Vec::new();
    decoder.read(block, |field| fields.push(field))?;
    Ok(fields)
}

fn path(text: &str) -> Field {
    Field::Path(text.into())
}

#[test]
fn requests_of_the_rfc() {
    // C.3 without Huffman's code, C.4 with it.
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::default();
        let mut sizes = Vec::new();
        let fields = blocks.map(|block| {
            let fields = read(&mut decoder, &hex(block)).unwrap();
            sizes.push(decoder.size);
            fields
        });
        let get = |to: &str| vec![Field::Method("GET"), Field::Other, path(to), Field::Other];
        let more = |to| [get(to), vec![Field::Other]].concat();
        assert_eq!(fields, [get("/"), more("/"), more("/index.html")]);
        assert_eq!(sizes, [57, 110, 164]);
    }
}

#[test]
fn responses_of_the_rfc_whose_entries_are_thrown_out() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
         3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 \
         677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 \
         553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let coded = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
         821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed \
         4ee5 b106 3d50 07",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder { limit: 256, ..Decoder::default() };
        let mut sizes = Vec::new();
        let statuses = blocks.map(|block| {
            let fields = read(&mut decoder, &hex(block)).unwrap();
            sizes.push((decoder.size, decoder.entries.len()));
            fields.first().cloned().unwrap()
        });
        assert_eq!(statuses, [302, 307, 200].map(Field::Status));
        assert_eq!(sizes, [(222, 4), (222, 4), (215, 3)]);
    }
}

#[test]
fn what_was_put_in_before_the_reading_began_is_unknown_and_the_rest_is_right() {
    let mut decoder = Decoder::default();
    decoder.forget();
    // :method GET; 62, 70; :path /a added; a literal whose name is an older entry, added; :path again.
    let block = hex("82 be c6 44 02 2f61 7f05 0131 bf be");
    let get = Field::Method("GET");
    let unknown = Field::Unknown;
    let expected =
        [get, unknown.clone(), unknown.clone(), path("/a"), unknown.clone(), path("/a"), unknown];
    assert_eq!(read(&mut decoder, &block).unwrap(), expected);
}

#[test]
fn a_table_is_as_large_as_its_sender_says() {
    let mut decoder = Decoder::default();
    let add = hex("44 02 2f61");
    for _ in 0..200 {
        _ = read(&mut decoder, &add).unwrap();
    }
    // 39 bytes each: the name, the value, and 32.
    assert_eq!((decoder.entries.len(), decoder.size), (105, 105 * 39));
    // 0, then 100; entries that are gone are unknown.
    _ = read(&mut decoder, &hex("20 3f45")).unwrap();
    assert_eq!((decoder.entries.len(), decoder.limit), (0, 100));
    assert_eq!(
        read(&mut decoder, &hex("44 02 2f62 be bf")).unwrap()[1..],
        [path("/b"), Field::Unknown]
    );
    // However large it may get, this much is kept; an entry larger than the table empties it.
    _ = read(&mut decoder, &hex("3fe1 ffff 03")).unwrap();
    assert_eq!(decoder.limit, LARGEST);
    _ = read(&mut decoder, &hex("3f45")).unwrap();
    let long = [hex("44 7f 29"), vec![b'/'; 127 + 41]].concat();
    assert_eq!(read(&mut decoder, &long).unwrap().len(), 1);
    assert_eq!(decoder.size, 0);
}

#[test]
fn what_is_no_block_is_refused() {
    // Index 0, an integer without end, a string longer than the block, one cut off, a bad code.
    for bad in ["80", "ff80808080808001", "ff", "4405 2f61", "44", "40", "0481 00"] {
        assert_eq!(read(&mut Decoder::default(), &hex(bad)), Err(Broken), "{bad}");
    }
    // Values nobody looks at are passed over, whatever they are.
    assert_eq!(read(&mut Decoder::default(), &hex("0f2b 8100")).unwrap(), [Field::Other]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_the_table_stays_bounded(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
    ) {
        let mut decoder = Decoder::default();
        for block in &blocks {
            if read(&mut decoder, block).is_err() {
                decoder.forget();
            }
            let size: usize = decoder.entries.iter().map(|entry| entry.size).sum();
            prop_assert!(size == decoder.size && size <= decoder.limit && size <= LARGEST);
        }
    }
}
