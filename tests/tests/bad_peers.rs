//! Ill-behaved peers on the scheduler's port: each is shown the door, and a bystander whose job runs meanwhile notices nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use ocluster_tests::{Bystander, Cluster, ClusterOptions, Story, TlsPeer};

/// How long a server may keep a connection on which nothing sensible happens.
const SHOWN_THE_DOOR: Duration = Duration::from_secs(60);

/// The header of a Cap'n Proto message: one segment of this many words (Cap'n Proto encoding, "Serialization Over a Stream").
fn segment(words: u32) -> Vec<u8> {
    [0_u32.to_le_bytes(), words.to_le_bytes()].concat()
}

#[test]
fn a_tls_peer_without_a_certificate_is_refused() -> Result<()> {
    with_bystander(|_, cluster| {
        let peer = TlsPeer::anonymous()?;
        let finished = peer.say(cluster.port(), b"", cluster.scratch())?;
        ensure!(
            finished.code() != 0
                && finished
                    .stderr
                    .to_lowercase()
                    .contains("certificate required"),
            "{finished}"
        );
        Ok(())
    })
}

#[test]
fn a_plain_text_peer_on_the_tls_port_is_refused() -> Result<()> {
    with_bystander(|_, cluster| {
        for text in [
            "GET / HTTP/1.0\r\n\r\n".as_bytes(),
            &segment(2),
            b"\0",
            &[0xff; 4096],
        ] {
            let mut stream = connect(cluster.port())?;
            // The server may hang up before everything is written.
            let _ = stream.write_all(text);
            stream.shutdown(std::net::Shutdown::Write)?;
            until_closed(&mut stream)?;
        }
        Ok(())
    })
}

#[test]
fn peers_that_never_finish_their_handshake_are_dropped_and_block_nobody() -> Result<()> {
    with_bystander(|story, cluster| {
        // Given many that say nothing, and some that stop in the middle of their first record,
        let mut silent = (0..200)
            .map(|_| connect(cluster.port()))
            .collect::<Result<Vec<_>>>()?;
        for stream in silent.iter_mut().step_by(10) {
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])?;
        }
        // then others are served meanwhile,
        let mut admin = story.programs.command("ocluster-admin");
        ocluster_tests::run(admin.args(["show", "-c"]).arg(cluster.secret("admin.cap")))?
            .success()?;
        // and those are dropped when their time is over.
        for stream in &mut silent {
            until_closed(stream)?;
        }
        Ok(())
    })
}

#[test]
fn garbage_and_huge_messages_end_their_own_connection_only() -> Result<()> {
    with_bystander(|_, cluster| {
        let peer = TlsPeer::with_certificate(cluster.scratch())?;
        let garbage: Vec<u8> = (0..64 * 1024_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let too_many_segments = [u32::MAX.to_le_bytes(), [0xff; 4]].concat();
        let unreadable_message = [segment(1), vec![0xff; 8]].concat();
        for bytes in [
            garbage,
            segment(0x3fff_ffff),
            segment(u32::MAX),
            too_many_segments,
            unreadable_message,
        ] {
            // The peer stays until the server ends the connection, and fails if it does not.
            peer.say(cluster.port(), &bytes, cluster.scratch())?;
        }
        Ok(())
    })
}

/// Runs `mistreat` while a bystander's job runs, then checks that the bystander has noticed nothing and that the scheduler lives.
fn with_bystander(mistreat: impl Fn(&Story, &Cluster<'_>) -> Result<()>) -> Result<()> {
    Story::tell(&["docker"], |story| {
        let pools = vec!["linux".to_owned(), Bystander::POOL.to_owned()];
        let mut cluster = Cluster::start_with(
            story,
            ClusterOptions {
                pools,
                ..ClusterOptions::default()
            },
        )?;
        let bystander = Bystander::start(story, &mut cluster)?;
        mistreat(story, &cluster)?;
        bystander.has_noticed_nothing()?;
        ensure!(cluster.scheduler()?.is_running()?);
        ensure!(
            !cluster.scheduler()?.log().contains("panicked at"),
            "the scheduler panicked"
        );
        Ok(())
    })
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SHOWN_THE_DOOR))?;
    Ok(stream)
}

/// Reads until the server closes the connection; a TLS alert may come first.
fn until_closed(stream: &mut TcpStream) -> Result<()> {
    let mut answer = [0; 1024];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
