//! The firmware's lists of what it starts (`db`) and what it never starts (`dbx`), as they stand in its variables: EFI_SIGNATURE_LIST of UEFI
//! 2.11, section 32.4.1. Only takes them apart; a kind that is not known here vouches for nothing.

/// Which digest something was taken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// What one variable lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// X.509, DER. Nobody has looked whether they are what they say.
    pub certificates: Vec<Vec<u8>>,
    /// Digests of images.
    pub images: Vec<(Hash, Vec<u8>)>,
    /// Digests of what is signed in a certificate (its TBSCertificate). In `dbx` with a time since when; before it counts here as well.
    pub bodies: Vec<(Hash, Vec<u8>)>,
}

const GUID: usize = 16;
/// Type, length of the list, of its header, of one signature.
const HEADER: usize = GUID + 12;
/// EFI_TIME.
const TIME: usize = 16;

enum Kind {
    Certificate,
    Image(Hash),
    Body(Hash),
    Other,
}

impl Hash {
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A GUID as it lies in memory: the first three numbers have their lowest byte first.
const fn guid(first: u32, second: u16, third: u16, rest: u64) -> [u8; GUID] {
    let number = (first.swap_bytes() as u128) << 96
        | (second.swap_bytes() as u128) << 80
        | (third.swap_bytes() as u128) << 64
        | rest as u128;
    number.to_be_bytes()
}

impl Kind {
    /// UEFI 2.11, section 32.4.1.
    fn of(name: &[u8]) -> Self {
        const KINDS: [([u8; GUID], Kind); 8] = [
            (
                guid(0xa5c0_59a1, 0x94e4, 0x4aa7, 0x87b5_ab15_5c2b_f072),
                Kind::Certificate,
            ),
            (
                guid(0x826c_a512, 0xcf10, 0x4ac9, 0xb187_be01_4966_31bd),
                Kind::Image(Hash::Sha1),
            ),
            (
                guid(0xc1c4_1626, 0x504c, 0x4092, 0xaca9_41f9_3693_4328),
                Kind::Image(Hash::Sha256),
            ),
            (
                guid(0xff3e_5307, 0x9fd0, 0x48c9, 0x85f1_8ad5_6c70_1e01),
                Kind::Image(Hash::Sha384),
            ),
            (
                guid(0x093e_0fae, 0xa6c4, 0x4f50, 0x9f1b_d41e_2b89_c19a),
                Kind::Image(Hash::Sha512),
            ),
            (
                guid(0x3bd2_a492, 0x96c0, 0x4079, 0xb420_fcf9_8ef1_03ed),
                Kind::Body(Hash::Sha256),
            ),
            (
                guid(0x7076_876e, 0x80c2, 0x4ee6, 0xaad2_28b3_49a6_865b),
                Kind::Body(Hash::Sha384),
            ),
            (
                guid(0x446d_bf63, 0x2502, 0x4cda, 0xbcfa_2465_d2b0_fe9d),
                Kind::Body(Hash::Sha512),
            ),
        ];
        KINDS
            .into_iter()
            .find(|(known, _)| known == name)
            .map_or(Self::Other, |(_, kind)| kind)
    }
}

impl Lists {
    /// # Errors
    /// What is wrong with them.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        const SIZES: &str = "the sizes in it do not fit together";
        let mut lists = Self::default();
        while !bytes.is_empty() {
            let (header, rest) = bytes.split_at_checked(HEADER).ok_or(SIZES)?;
            let (name, sizes) = header.split_at(GUID);
            let (sizes, _) = sizes.as_chunks::<4>();
            let size = |index: usize| {
                let bytes = sizes.get(index).copied().unwrap_or_default();
                usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| SIZES)
            };
            let (list, own, each) = (size(0)?, size(1)?, size(2)?);
            let content = list.checked_sub(HEADER).ok_or(SIZES)?;
            let (content, next) = rest.split_at_checked(content).ok_or(SIZES)?;
            let (_, signatures) = content.split_at_checked(own).ok_or(SIZES)?;
            if each <= GUID || signatures.len() % each != 0 {
                return Err(SIZES);
            }
            for signature in signatures.chunks_exact(each) {
                // Each begins with a GUID that says who put it there.
                lists.add(&Kind::of(name), &signature[GUID..])?;
            }
            bytes = next;
        }
        Ok(lists)
    }

    fn add(&mut self, kind: &Kind, data: &[u8]) -> Result<(), &'static str> {
        const DIGEST: &str = "a digest in it has another length than its kind";
        match kind {
            Kind::Certificate => self.certificates.push(data.to_vec()),
            Kind::Image(hash) if data.len() == hash.bytes() => {
                self.images.push((*hash, data.to_vec()));
            }
            Kind::Body(hash) if data.len() == hash.bytes() + TIME => {
                self.bodies.push((*hash, data[..hash.bytes()].to_vec()));
            }
            Kind::Image(_) | Kind::Body(_) => return Err(DIGEST),
            Kind::Other => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: [u8; GUID] = [
        0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43,
        0x28,
    ];

    fn list(kind: [u8; GUID], header: usize, each: u32, data: &[&[u8]]) -> Vec<u8> {
        let mut list = kind.to_vec();
        let content: usize = data.iter().map(|data| GUID + data.len()).sum();
        list.extend(((HEADER + header + content) as u32).to_le_bytes());
        list.extend((header as u32).to_le_bytes());
        list.extend(each.to_le_bytes());
        list.resize(HEADER + header, 0xaa);
        for data in data {
            list.extend([7; GUID]);
            list.extend(*data);
        }
        list
    }

    #[test]
    fn every_list_of_a_variable_is_read() {
        let variable = [
            list(SHA256, 0, 48, &[&[1; 32], &[2; 32]]),
            list(guid(1, 2, 3, 4), 5, 20, &[&[3; 4]]),
            list(SHA256, 3, 48, &[&[4; 32]]),
            list(SHA256, 0, 48, &[]),
        ]
        .concat();
        let lists = Lists::parse(&variable).unwrap();
        let images: Vec<_> = [1, 2, 4].map(|byte| (Hash::Sha256, vec![byte; 32])).into();
        assert_eq!(lists.images, images);
        assert!(lists.certificates.is_empty() && lists.bodies.is_empty());
        assert_eq!(Lists::parse(&[]), Ok(Lists::default()));
    }

    #[test]
    fn a_time_behind_a_certificate_s_digest_is_no_part_of_it() {
        let kind = guid(0x3bd2_a492, 0x96c0, 0x4079, 0xb420_fcf9_8ef1_03ed);
        let data = [[9; 32].as_slice(), &[1; TIME]].concat();
        let lists = Lists::parse(&list(kind, 0, 64, &[&data])).unwrap();
        assert_eq!(lists.bodies, [(Hash::Sha256, vec![9; 32])]);
    }

    #[test]
    fn what_does_not_fit_together_is_no_list() {
        let good = list(SHA256, 0, 48, &[&[1; 32]]);
        for length in 1..good.len() {
            assert!(Lists::parse(&good[..length]).is_err(), "{length}");
        }
        for (at, value) in [
            (16, 0),
            (16, 27),
            (16, 77),
            (16, u32::MAX),
            (20, 1),
            (20, u32::MAX),
            (24, 0),
            (24, 16),
            (24, 24),
            (24, u32::MAX),
        ] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(Lists::parse(&bad).is_err(), "{value} at {at}");
        }
    }
}
