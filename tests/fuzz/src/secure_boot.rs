//! What an update's images and the firmware's variables say of who may start. The product's own files, without the verification behind them: its
//! cryptography, compiled for libFuzzer, would take longer than all targets run.

#[path = "../../../supervisor/update/src/install/secure_boot/image.rs"]
pub mod image;
#[path = "../../../supervisor/update/src/install/secure_boot/lists.rs"]
pub mod lists;
#[path = "../../../supervisor/update/src/install/secure_boot/signature.rs"]
pub mod signature;

use lists::Lists;
use signature::Signature;

/// Any bytes, as a variable, as an image, and as a signature: nothing is held or hashed that is not there.
pub fn secure_boot(bytes: &[u8]) {
    if let Ok(lists) = Lists::parse(bytes) {
        let digests = lists.images.iter().chain(&lists.bodies);
        let held = digests.map(|(hash, digest)| {
            assert_eq!(digest.len(), hash.bytes());
            digest.len()
        });
        let held = held.chain(lists.certificates.iter().map(Vec::len));
        assert!(held.sum::<usize>() <= bytes.len(), "more than there is");
    }
    take_apart(bytes);
    let length = bytes.len() as u64;
    let head = &bytes[..bytes.len().min(image::HEAD)];
    if let Ok(layout) = image::Layout::parse(head, length) {
        let sizes = layout.hashed.iter().map(|range| {
            assert!(range.start < range.end && range.end <= length, "{range:?}");
            range.end - range.start
        });
        assert!(sizes.sum::<u64>() <= length, "hashed twice");
        let (from, to) = (layout.signatures.start, layout.signatures.end);
        let table = bytes.get(from as usize..to as usize);
        let table = table.expect("signatures inside the image");
        for signature in image::signatures(table).into_iter().flatten() {
            take_apart(signature);
        }
    }
}

fn take_apart(der: &[u8]) {
    if let Ok(signature) = Signature::parse(der) {
        assert!(signature.signer < signature.certificates.len());
        assert_eq!(signature.digest.len(), signature.hash.bytes());
        assert!(signature.attributes.len() <= der.len());
    }
}
