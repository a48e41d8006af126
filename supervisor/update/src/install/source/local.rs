//! A file, or a pipe or socket from which the bundle comes once and in order.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use atalaya_bundle::{Seekable, Source, Stream};

use super::Meter;

pub(super) fn open(path: &Path, meter: &Meter) -> io::Result<Box<dyn Source>> {
    let kind = fs::metadata(path)?.file_type();
    let meter = meter.clone();
    if kind.is_socket() {
        let stream = UnixStream::connect(path)?;
        return Ok(Box::new(Stream(Metered {
            inner: stream,
            meter,
        })));
    }
    let file = File::open(path)?;
    if kind.is_fifo() {
        return Ok(Box::new(Stream(Metered { inner: file, meter })));
    }
    if !kind.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a file nor a pipe nor a socket",
        ));
    }
    Ok(counted(file, &meter))
}

/// A regular file.
pub(super) fn counted(file: File, meter: &Meter) -> Box<dyn Source> {
    Box::new(Metered {
        inner: Seekable(file),
        meter: meter.clone(),
    })
}

/// Counts what is read.
#[derive(Debug)]
struct Metered<T> {
    inner: T,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.add(count);
        Ok(count)
    }
}

impl<F: Read + io::Seek> Source for Metered<Seekable<F>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.add(count);
        Ok(count)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.inner.skip(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    fn read_all_but_the_middle(source: &mut dyn Source) -> Vec<u8> {
        let mut start = [0; 3];
        read_exact(source, &mut start);
        source.skip(4).unwrap();
        let mut end = [0; 3];
        read_exact(source, &mut end);
        assert_eq!(source.read(&mut [0; 1]).unwrap(), 0);
        [start, end].concat()
    }

    fn read_exact(source: &mut dyn Source, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let count = source.read(buffer).unwrap();
            assert!(count > 0);
            buffer = &mut buffer[count..];
        }
    }

    #[test]
    fn a_file_is_not_read_where_nobody_looks_and_a_socket_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        File::create(&path)
            .unwrap()
            .write_all(b"abcDEFGhij")
            .unwrap();
        let meter = Meter::default();
        let mut source = open(&path, &meter).unwrap();
        assert_eq!(read_all_but_the_middle(&mut source), b"abchij");
        assert_eq!(meter.bytes(), 6);

        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let sender = std::thread::spawn(move || {
            listener
                .accept()
                .unwrap()
                .0
                .write_all(b"abcDEFGhij")
                .unwrap();
        });
        let meter = Meter::default();
        let mut source = open(&path, &meter).unwrap();
        assert_eq!(read_all_but_the_middle(&mut source), b"abchij");
        assert_eq!(meter.bytes(), 10);
        sender.join().unwrap();
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path(), &Meter::default()).is_err());
        assert!(open(Path::new("/dev/null"), &Meter::default()).is_err());
        assert!(open(&folder.path().join("absent"), &Meter::default()).is_err());
    }
}
