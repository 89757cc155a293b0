//! The server's surface without sockets and models, for tests that send it anything at all.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use jishi_data::image::Preparation;
use jishi_recipe::{Image, Size};

use crate::app::{Shared, router};
use crate::gate::Peer;
use crate::input::Form;
use crate::limits::Limits;
use crate::model::Models;
use crate::multipart::parts;
use crate::ticket::Books;

/// A server without models.
pub struct Surface {
    app: Router,
    runtime: tokio::runtime::Runtime,
    limits: Limits,
    forms: Vec<Form>,
}

impl Surface {
    /// One that is ready.
    ///
    /// # Errors
    /// The system's, where there is no runtime.
    pub fn new() -> std::io::Result<Self> {
        let limits = Limits { body: 1 << 16, rows: 8, text: 64, pixels: 1 << 16, ..Limits::default() };
        let shared = Shared::new(Arc::new(limits.clone()), Arc::new(Books::default()), None);
        shared.replace(Models::default());
        let image = Image { size: Some(Size::Sides([4, 4])), ..Image::default() };
        let channels = image.channels.count();
        let preparation = Preparation::with(&image, vec![0.5; channels], vec![0.5; channels]);
        let images = preparation.into_iter().map(|p| Form::Images(Box::new(p)));
        let forms = [Form::Texts { blank: false }, Form::Texts { blank: true }, Form::Seeds];
        Ok(Self {
            app: router(Arc::new(shared), axum::Router::new()),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?,
            limits,
            forms: forms.into_iter().chain(images).collect(),
        })
    }

    /// Sends a request: a line with method and path, lines with headers, an empty line, the body. Gives status and body of
    /// the answer; none to what is no request.
    #[must_use]
    pub fn ask(&self, bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
        let mut lines = bytes.splitn(2, |b| *b == b'\n');
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let mut rest = lines.next().unwrap_or_default();
        let (method, path) = first.split_once(' ')?;
        let mut request = Request::builder().method(method).uri(path.trim_end());
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            let Some(colon) = line.iter().position(|b| *b == b':') else { break };
            request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
        }
        let mut request = request.body(Body::from(rest.to_vec())).ok()?;
        request.extensions_mut().insert(Peer(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
        let service = TowerToHyperService::new(self.app.clone());
        self.runtime.block_on(async {
            let response = service.call(request).await.ok()?;
            let status = response.status().as_u16();
            let mut stream = response.into_body().into_data_stream();
            let mut all = Vec::new();
            while let Some(Ok(part)) = stream.next().await {
                all.extend_from_slice(&part);
            }
            Some((status, all))
        })
    }

    /// Reads a body as inputs of every kind of model, and as the file of an image.
    pub fn read(&self, bytes: &[u8]) {
        for form in &self.forms {
            if let Ok(input) = form.parse(bytes, &self.limits) {
                assert!((1..=self.limits.rows).contains(&input.len()), "{input:?}");
            }
            if let Ok(files) = parts(bytes, "b", self.limits.rows) {
                let _ = form.files(&files, &self.limits);
            }
            if let Ok(input) = form.file(bytes, &self.limits) {
                assert_eq!(input.len(), 1);
            }
        }
    }
}
