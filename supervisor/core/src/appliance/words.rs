//! Values of which there are only a few. Decides how they are spelled.

/// An enum whose values stand in the file as words.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$of:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $value,)+ }

        impl $name {
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }

            pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
                match text {
                    $($word => Ok(Self::$value),)+
                    _ => Err("is not one of them"),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(super) use words;
