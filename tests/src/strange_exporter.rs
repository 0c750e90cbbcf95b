//! Exporters that do what none should: plain sockets that answer every request in their own way, until the test ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::Result;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";

/// What an exporter does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Strange {
    /// Answers well.
    Well,
    /// Answers well, with a page of 30 MB.
    Large,
    /// Says nothing.
    Silent,
    /// Says a byte a second, for ever.
    Drip,
    /// Answers with 404.
    NotFound,
    /// Does not say what its page is.
    Untyped,
    /// Speaks another protocol.
    Garbage,
    /// Gives a page of 100 MB.
    Huge,
    /// Gives a page that is not text.
    Binary,
}

impl Strange {
    /// Starts such an exporter, and says where it is. Its thread lives as long as the test's process.
    ///
    /// # Errors
    ///
    /// When there is no port left.
    pub fn start(self) -> Result<String> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}/metrics", listener.local_addr()?);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever asks may go away at any time, and does.
                thread::spawn(move || self.answer(stream));
            }
        });
        Ok(url)
    }

    fn answer(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = BufReader::new(stream.try_clone()?).lines();
        while request
            .next()
            .transpose()?
            .is_some_and(|line| !line.is_empty())
        {}
        match self {
            Self::Well => write!(stream, "{HEAD}Content-Length: 5\r\n\r\nup 1\n"),
            Self::Large => {
                let page = "# nothing\n".repeat(3_000_000);
                write!(stream, "{HEAD}Content-Length: {}\r\n\r\n{page}", page.len())
            }
            Self::Silent => {
                // Until the other side has had enough.
                request.next();
                Ok(())
            }
            Self::Drip => {
                write!(stream, "{HEAD}Transfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    write!(stream, "1\r\na\r\n")?;
                    thread::sleep(Duration::from_secs(1));
                }
            }
            Self::NotFound => write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"
            ),
            Self::Untyped => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nup 1\n")
            }
            Self::Garbage => stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
            Self::Huge => {
                write!(stream, "{HEAD}Content-Length: 104857600\r\n\r\n")?;
                let piece = [b'#'; 64 * 1024];
                for _ in 0..1600 {
                    stream.write_all(&piece)?;
                }
                Ok(())
            }
            Self::Binary => {
                write!(stream, "{HEAD}Content-Length: 4\r\n\r\n")?;
                stream.write_all(&[0xff, 0xfe, 0, 1])
            }
        }
    }
}
