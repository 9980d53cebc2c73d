# As Dockerfile, on Alpine and others with musl: harnessd needs libstdc++, claude's Bash tool a bash.
ARG BASE=alpine
FROM ${BASE}
ARG IMAGE
ARG HARNESSES
ARG CONTENT
USER 0:0
RUN command -v bash >/dev/null && ls /usr/lib/libstdc++.so.6 /usr/lib/libgcc_s.so.1 || \
    apk add --no-cache libstdc++ libgcc bash
COPY rootfs/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/home/agent
WORKDIR /workspace
USER 1000:1000
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/harnessd"]
CMD []
LABEL dev.deco-link.image=${IMAGE} dev.deco-link.harnesses=${HARNESSES} dev.deco-link.content=${CONTENT}
