//! Servers that are none of ours: what stands where a service should be.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

const PAGE: &str = "<html><title>Sign in</title></html>";

/// Answers every request with a redirect to a login page, as an access proxy does.
pub fn redirect() -> io::Result<SocketAddr> {
    serve("302 Found\r\nLocation: https://login.example/cdn-cgi/access/login?token=x")
}

/// Answers every request with a login page and 200.
pub fn page() -> io::Result<SocketAddr> {
    serve("200 OK")
}

/// Until the process ends.
fn serve(head: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, head));
        }
    });
    Ok(address)
}

/// What of the request comes at once is read, so that closing does not reset the answer.
fn answer(mut stream: std::net::TcpStream, head: &str) -> io::Result<()> {
    let length = PAGE.len();
    let mut request = [0; 65536];
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    write!(
        stream,
        "HTTP/1.1 {head}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{PAGE}"
    )?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the other side has read it and closes.
    while stream.read(&mut request)? > 0 {}
    Ok(())
}
