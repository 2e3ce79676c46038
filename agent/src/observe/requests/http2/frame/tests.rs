use proptest::prelude::*;

use super::super::recorded::{data, frame, get};
use super::*;

fn whole(bytes: &[u8]) -> Piece<'_> {
    Piece::new(bytes, bytes.len() as u64)
}

/// What is found in pieces.
fn found(mut frames: Frames, pieces: &[Piece<'_>]) -> Vec<String> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut piece = *piece;
        loop {
            out.push(match frames.next(&mut piece, 1) {
                Step::Idle => break,
                Step::Lost => "lost".to_owned(),
                Step::End(stream) => format!("end {stream}"),
                Step::Reset(stream) => format!("reset {stream}"),
                Step::GoAway(last) => format!("go away {last}"),
                Step::Block(block) => {
                    let text = String::from_utf8_lossy(&block.bytes).into_owned();
                    let marks = [(block.promised, "+"), (block.ends, "."), (!block.whole, "?")];
                    let marks = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark);
                    format!("{} {text}{}", block.stream, marks.collect::<String>())
                }
            });
        }
        assert!(piece.is_empty());
    }
    out
}

#[test]
fn a_connection_begins_with_its_preface() {
    let begin = [PREFACE, &frame(4, 0, 0, &[0; 6]), &frame(1, 5, 1, b"ab")].concat();
    assert_eq!(found(Frames::of_client(), &[whole(&begin)]), ["1 ab."]);
    let bytes: Vec<Piece<'_>> = begin.chunks(1).map(whole).collect();
    assert_eq!(found(Frames::of_client(), &bytes), ["1 ab."]);
    assert_eq!(found(Frames::of_client(), &[whole(b"PRI * HTTP/3.0\r\n\r\n")]), ["lost"]);
    assert!(begins_connection(&begin) && begins_connection(b"PRI "));
    assert!(!begins_connection(b"PRI") && !begins_connection(b"PRIVMSG #a"));
}

#[test]
fn padding_priority_and_continuation_are_taken_away() {
    let padded = frame(1, 4 | 8 | 0x20, 3, b"\x02\0\0\0\0\x10ab\0\0");
    let first = frame(1, 1, 5, b"ab");
    let next = [frame(9, 0, 5, b"cd"), frame(9, 4, 5, b"ef")].concat();
    let promise = frame(5, 4, 7, b"\0\0\0\x02ab");
    let others = [frame(2, 0, 9, &[0; 5]), frame(8, 0, 0, &[0; 4]), frame(0x42, 9, 9, b"?")];
    let ends = [frame(3, 0, 9, &[0; 4]), frame(7, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0, b'x'])].concat();
    let all = [padded, first, next, promise, others.concat(), ends].concat();
    let expected = ["3 ab", "5 abcdef.", "7 ab+", "reset 9", "go away 3"];
    assert_eq!(found(Frames::of_server(), &[whole(&all)]), expected);
}

#[test]
fn what_is_no_frame_is_lost() {
    for bad in [
        // Padding longer than the payload, too short for its priority or its promise.
        frame(1, 4 | 8, 1, b"\x09ab"),
        frame(1, 4 | 0x20, 1, b"ab"),
        frame(5, 4, 1, b"abcde").into_iter().take(8).chain([1, 0, 0]).collect(),
        // Of no stream, or of one where there is none; of a length that it cannot have.
        data(0, false, 3),
        frame(4, 0, 1, &[0; 6]),
        frame(4, 0, 0, &[0; 7]),
        frame(6, 0, 0, &[0; 7]),
        // A block that does not go on, or that was not begun.
        [frame(1, 0, 1, b"ab"), data(1, true, 1)].concat(),
        [frame(1, 0, 1, b"ab"), frame(9, 4, 3, b"cd")].concat(),
        frame(9, 4, 1, b"ab"),
    ] {
        let lost = found(Frames::of_server(), &[whole(&bad)]);
        assert!(lost.is_empty() || lost == ["lost"], "{bad:?}: {lost:?}");
    }
    let bad = data(0, false, 3);
    let good = get(1, "/");
    let pieces = [whole(&bad), whole(b"xxxxxxxxxxxxxx"), whole(&good)];
    let found = found(Frames::of_server(), &pieces);
    assert_eq!((found[0].as_str(), found.len()), ("lost", 2));
}

#[test]
fn payloads_are_passed_over_whether_they_are_known_or_not() {
    let long = data(1, true, 50_000);
    let end = frame(1, 5, 3, b"ab");
    let rest = [&long[40_000..], &end].concat();
    let pieces = [Piece::new(&long[..9], 9 + 10_000), Piece::gap(29_991), whole(&rest)];
    assert_eq!(found(Frames::of_server(), &pieces), ["end 1", "3 ab."]);
    // A header block of which not all is known, its beginning; the place is not lost with it.
    let head = frame(1, 5, 1, &[b'a'; 300]);
    let cut = Piece::new(&head[..12], 309);
    assert_eq!(found(Frames::of_server(), &[cut, whole(&end)]), ["1 aaa.?", "3 ab."]);
    // Where a head should be and nothing is known, it is.
    let pieces = [Piece::gap(5), whole(&end)];
    assert_eq!(found(Frames::of_server(), &pieces), ["lost", "3 ab."]);
}

#[test]
fn the_place_is_found_at_a_frame_that_another_one_follows() {
    let alone = frame(1, 5, 1, b"ab");
    let two = [alone.clone(), frame(0, 1, 3, b"x")].concat();
    assert_eq!(found(Frames::older(), &[whole(&alone)]), ["1 ab."]);
    assert_eq!(found(Frames::older(), &[whole(&two)]), ["1 ab.", "end 3"]);
    let other = [alone.clone(), b"something else".to_vec()].concat();
    assert_eq!(found(Frames::older(), &[whole(&other), Piece::gap(7)]), [""; 0]);
    assert!(goes_on(&whole(&alone)) && goes_on(&whole(&two)) && !goes_on(&whole(&other)));
    // DATA alone may be anything; so may zeros, and what is not known.
    assert!(!goes_on(&whole(&data(1, true, 3))) && !goes_on(&whole(&[0; 100])));
    assert!(!goes_on(&Piece::gap(100)));
}

#[test]
fn a_block_is_bounded() {
    let mut all = frame(1, 1, 1, &[b'a'; 10_000]);
    for n in 0..20 {
        all.extend(frame(9, if n == 19 { 4 } else { 0 }, 1, &[b'b'; 10_000]));
    }
    let mut frames = Frames::of_server();
    let mut piece = whole(&all);
    let Step::Block(block) = frames.next(&mut piece, 1) else { panic!("no block") };
    assert_eq!((block.bytes.len(), block.whole, block.ends), (BLOCK, false, true));
}

proptest! {
    #[test]
    fn how_calls_cut_a_stream_does_not_matter(
        lengths in prop::collection::vec(0usize..300, 1..12),
        cuts in prop::collection::vec(1usize..80, 1..60),
    ) {
        let mut text = PREFACE.to_vec();
        let mut expected = Vec::new();
        for (n, length) in lengths.iter().enumerate() {
            let stream = 2 * u32::try_from(n).unwrap() + 1;
            text.extend(frame(1, 4, stream, b"ab"));
            text.extend(data(stream, true, *length));
            expected.extend([format!("{stream} ab"), format!("end {stream}")]);
        }
        let mut pieces = Vec::new();
        let (mut rest, mut n) = (text.as_slice(), 0);
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(cuts[n % cuts.len()].min(rest.len()));
            pieces.push(whole(piece));
            (rest, n) = (more, n + 1);
        }
        prop_assert_eq!(found(Frames::of_client(), &pieces), expected);
    }
}
