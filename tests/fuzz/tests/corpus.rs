//! Every input of the corpus, and every one that once broke something, without libFuzzer: so each compiler and each
//! `cargo test` goes through them.

use std::fs;
use std::path::Path;

use atalaya_fuzz::TARGETS;

#[test]
fn every_input_that_was_kept_is_survived() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let inputs = fs::read_dir(root.join(name)).unwrap();
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
}
