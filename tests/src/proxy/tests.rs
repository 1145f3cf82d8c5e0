use super::*;

/// An echo server; answers its address.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn link(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn round_trip(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    socket.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    socket.read_exact(&mut back).await?;
    Ok(back)
}

async fn no_links(proxy: &Proxy) {
    proxy.links().wait_for(|count| *count == 0).await.unwrap();
}

#[tokio::test]
async fn bytes_pass_both_ways_and_an_end_passes_too() {
    let proxy = Proxy::start(Some(echo().await)).await.unwrap();
    let mut socket = link(&proxy).await;
    let sent: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
    let (mut from, mut to) = socket.split();
    let mut back = Vec::new();
    let writing = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let (_, length) = tokio::join!(writing, from.read_to_end(&mut back));
    assert_eq!(length.unwrap(), sent.len());
    assert_eq!(back, sent);
    no_links(&proxy).await;
}

#[tokio::test]
async fn a_cut_ends_in_good_order_and_a_reset_does_not_and_new_links_work_after_both() {
    let proxy = Proxy::start(Some(echo().await)).await.unwrap();
    let mut socket = link(&proxy).await;
    assert_eq!(round_trip(&mut socket, b"one").await.unwrap(), b"one");
    proxy.apply(Fault::Cut);
    assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0);
    let mut socket = link(&proxy).await;
    assert_eq!(round_trip(&mut socket, b"two").await.unwrap(), b"two");
    proxy.apply(Fault::Reset);
    let error = socket.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let mut socket = link(&proxy).await;
    assert_eq!(round_trip(&mut socket, b"three").await.unwrap(), b"three");
}

#[tokio::test]
async fn a_half_open_link_swallows_everything_and_says_nothing() {
    let proxy = Proxy::start(Some(echo().await)).await.unwrap();
    let mut socket = link(&proxy).await;
    assert_eq!(round_trip(&mut socket, b"before").await.unwrap(), b"before");
    proxy.apply(Fault::HalfOpen { on: true });
    // Far more than all buffers hold: it is taken, so it is swallowed.
    socket.write_all(&vec![7; 32 << 20]).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(50), socket.read(&mut [0; 8])).await;
    assert!(silence.is_err());
    proxy.apply(Fault::HalfOpen { on: false });
    // Whatever had been echoed before the fault may still come; then the reset.
    let error = loop {
        match socket.read(&mut [0; 4096]).await {
            Ok(0) => panic!("an orderly end would hide that bytes were swallowed"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_link_is_reset_after_exactly_as_many_bytes_as_it_may_carry() {
    let proxy = Proxy::start(Some(echo().await)).await.unwrap();
    proxy.apply(Fault::DropAfter { bytes: Some(25) });
    let mut socket = link(&proxy).await;
    assert_eq!(round_trip(&mut socket, b"0123456789").await.unwrap(), b"0123456789");
    assert!(round_trip(&mut socket, b"0123456789").await.is_err());
    proxy.apply(Fault::DropAfter { bytes: None });
    assert!(round_trip(&mut link(&proxy).await, &[1; 100]).await.is_ok());
}

#[tokio::test]
async fn delay_and_bandwidth_are_kept_in_both_directions() {
    let proxy = Proxy::start(Some(echo().await)).await.unwrap();
    let mut socket = link(&proxy).await;
    proxy.apply(Fault::Delay { ms: 40 });
    let start = Instant::now();
    round_trip(&mut socket, b"late").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(80));
    proxy.apply(Fault::Delay { ms: 0 });
    proxy.apply(Fault::Bandwidth { bytes_per_second: Some(1 << 20) });
    let start = Instant::now();
    let sent = vec![1; 128 << 10];
    let (mut from, mut to) = socket.split();
    let mut back = vec![0; sent.len()];
    let (_, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut back));
    read.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_target_may_be_down_and_may_change() {
    let proxy = Proxy::start(None).await.unwrap();
    let mut socket = link(&proxy).await;
    assert!(round_trip(&mut socket, b"x").await.is_err());
    proxy.apply(Fault::Target { address: Some(echo().await) });
    assert!(round_trip(&mut link(&proxy).await, b"x").await.is_ok());
}
