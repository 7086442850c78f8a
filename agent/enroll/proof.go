package enroll

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
)

// What a signature is for. A proof of one kind is never one of another.
const (
	proofToken    = "token"
	proofIdentity = "identity"
	proofIssuer   = "issuer"
	proofAWS      = "aws"
)

// transcript is what proofs sign: their purpose, this TLS connection (by its
// exported keying material, RFC 8446, section 7.5), and the question.
func transcript(purpose string, exported, question []byte) []byte {
	sum := sha256.Sum256(question)
	b := []byte("drawbridge enroll 2\x00" + purpose + "\x00")
	b = append(b, exported...)
	return append(b, sum[:]...)
}

// challenge is what a host must let AWS confirm: 32 bytes that nobody knew
// before this connection, and that bind the keys in the question.
func challenge(exported, question []byte) []byte {
	sum := sha256.Sum256(transcript(proofAWS, exported, question))
	return sum[:]
}

func export(cs tls.ConnectionState) ([]byte, error) {
	return cs.ExportKeyingMaterial("EXPORTER-drawbridge-enroll", nil, 32)
}

// proven checks one signature. key has the right length.
func proven(key []byte, purpose string, exported, question, proof []byte) bool {
	return ed25519.Verify(key, transcript(purpose, exported, question), proof)
}
