//! A certificate of a test's own.

use std::path::Path;
use std::process::Command;

/// A certificate for this machine that it signed itself, and its key: paths of both.
pub struct Certificate {
    /// Whom to trust.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Certificate {
    /// Makes one in a folder.
    ///
    /// # Panics
    /// When `openssl` does not.
    #[must_use]
    pub fn made(dir: &Path) -> Self {
        let path = |name: &str| dir.join(name).display().to_string();
        let (certificate, key) = (path("certificate.pem"), path("key.pem"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
            .args(["-keyout", &key, "-out", &certificate])
            .output()
            .expect("no openssl: run tools/services.sh first");
        assert!(output.status.success(), "{output:?}");
        Self { certificate, key }
    }

    /// What nginx is told of it.
    #[must_use]
    pub fn of_nginx(&self) -> String {
        format!("ssl_certificate {}; ssl_certificate_key {};", self.certificate, self.key)
    }
}
