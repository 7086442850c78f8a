# One static binary on an empty image. With NET_ADMIN and /dev/net/tun the agent
# uses a TUN device; without, it runs unprivileged on its own network stack.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /drawbridge ./cmd/drawbridge

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /drawbridge /drawbridge
VOLUME /var/lib/drawbridge
ENTRYPOINT ["/drawbridge"]
CMD ["agent", "--state-dir", "/var/lib/drawbridge"]
