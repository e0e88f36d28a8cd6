# The agent's image (and, with another command, the control plane's): one static binary, the checks, CA certificates. No shell.
#   docker build -t picket .
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends lld ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN rustup target add wasm32-wasip2
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    set -eu; \
    make plugins; \
    host=$(rustc -vV | sed -n 's/^host: //p'); \
    export CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS="-Ctarget-feature=+crt-static -Clink-arg=-fuse-ld=lld"; \
    cargo build --locked --release --target "$host" -p picket --no-default-features --features mimalloc; \
    mkdir -p /out/data /out/plugins; \
    cp "target/$host/release/picket" /out/picket; \
    cp target/plugins/*.wasm /out/plugins/

FROM scratch
COPY --from=build /out/picket /picket
COPY --from=build /out/plugins /plugins
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
ENV PICKET_DATA=/data
USER 65532:65532
VOLUME /data
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["/picket", "health"]
ENTRYPOINT ["/picket"]
CMD ["agent"]
