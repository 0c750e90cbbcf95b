# The scheduler's image, with the client and the admin's tool beside it.
#
#   docker build -t ocluster-scheduler .                      compiles in the image (needs the registries and crates.io)
#   docker build -t ocluster-scheduler --target prebuilt .    takes ready programs from ./dist (or --build-arg PROGRAMS=DIR)
#
# Stages stand in the order in which the classic builder runs them: whoever asks for `prebuilt` compiles nothing.

ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm

# What both ways of getting the programs share.
FROM ${BASE_IMAGE} AS base
# The scheduler needs no other programs or libraries, and no privileges: it never touches Docker. Users are made by hand, as tools
# for that differ between base images; the number is fixed so that owners of bind mounts can be set.
RUN echo 'ocluster:x:10001:10001:OCluster:/var/lib/ocluster:/bin/false' >> /etc/passwd && \
    echo 'ocluster:x:10001:' >> /etc/group && \
    mkdir -p /var/lib/ocluster/capnp-secrets && \
    chmod 0700 /var/lib/ocluster /var/lib/ocluster/capnp-secrets && \
    chown -R 10001:10001 /var/lib/ocluster
USER 10001:10001
# Also where ./capnp-secrets, the default of --secrets-dir, is found.
WORKDIR /var/lib/ocluster
# Key, capability files and state: what must be kept and backed up.
VOLUME ["/var/lib/ocluster"]
EXPOSE 9000 9877
# Asks as an admin would. The public address of the scheduler must be reachable from within; else run with --no-healthcheck and ask
# /health of --listen-prometheus from outside.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/ocluster-admin", "show", "/var/lib/ocluster/capnp-secrets/admin.cap"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/ocluster-scheduler"]

# Ready programs from the build context.
FROM base AS prebuilt
ARG PROGRAMS=dist
COPY ${PROGRAMS}/ocluster-scheduler ${PROGRAMS}/ocluster-admin ${PROGRAMS}/ocluster-client /usr/local/bin/

# The programs from their source.
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p ocluster-scheduler -p ocluster-admin -p ocluster-client

# The default.
FROM base
COPY --from=build /src/target/release/ocluster-scheduler /src/target/release/ocluster-admin \
    /src/target/release/ocluster-client /usr/local/bin/
