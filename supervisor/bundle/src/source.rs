//! Where a bundle comes from: bytes in order, and some that nobody needs to see.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes in order, once.
pub trait Source {
    /// As [`Read::read`]: 0 only behind the last byte.
    ///
    /// # Errors
    /// The bytes cannot be had. [`io::ErrorKind::Interrupted`] is tried again.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Goes on that many bytes later. Whether the source is long enough may turn out at the next `read`, which then gives 0.
    ///
    /// # Errors
    /// The bytes behind cannot be had.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;

    /// So many bytes are read or skipped next, and the last of them is read: who has to ask for bytes can ask for these together. A hint.
    fn announce(&mut self, _bytes: u64) {}
}

impl<S: Source + ?Sized> Source for &mut S {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read(buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        (**self).skip(bytes)
    }

    fn announce(&mut self, bytes: u64) {
        (**self).announce(bytes);
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read(buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        (**self).skip(bytes)
    }

    fn announce(&mut self, bytes: u64) {
        (**self).announce(bytes);
    }
}

/// A pipe or socket: what is skipped is read and dropped.
#[derive(Debug)]
pub struct Stream<R>(pub R);

impl<R: Read> Source for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut (&mut self.0).take(bytes), &mut io::sink()).map(drop)
    }
}

/// A file: what is skipped is not read.
#[derive(Debug)]
pub struct Seekable<F>(pub F);

impl<F: Read + Seek> Source for Seekable<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.0.seek(SeekFrom::Current(bytes)).map(drop)
    }
}
