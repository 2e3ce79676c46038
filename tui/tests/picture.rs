//! The picture in the README is made by the program itself, from its own cells.

use coral_tui::feed::fake::Scenario;
use coral_tui::runtime::Rehearsal;
use coral_tui::theme::Depth;

#[test]
fn the_readmes_picture_is_what_the_program_draws() {
    let mut screen =
        Rehearsal::new(Some(Scenario::Incident), (120, 36), "dark", Depth::True).expect("a screen");
    let drawn = coral_tui::export::svg(screen.look(), "Coral");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/screen.svg");
    if std::env::var_os("CORAL_WRITE_DOCS").is_some() {
        std::fs::write(path, &drawn).expect("docs/ is there");
    }
    let kept = std::fs::read_to_string(path).expect("docs/screen.svg is there");
    assert!(
        kept == drawn,
        "docs/screen.svg is not what the program draws; \
         write it with CORAL_WRITE_DOCS=1 cargo test --release -p coral-tui --test picture"
    );
}
