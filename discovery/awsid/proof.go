package awsid

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// MaxProof is the size of an encoded proof, in bytes; session tokens take most
// of it.
const MaxProof = 8 << 10

// The headers of a proof. Names are canonical: another case is another name.
const (
	headerAuthorization = "Authorization"
	headerDate          = "X-Amz-Date"
	headerToken         = "X-Amz-Security-Token"
	headerChallenge     = "X-Drawbridge-Challenge"
)

var proofHeaders = []string{headerAuthorization, headerDate, headerToken, headerChallenge}

// The fixed part of the signed request.
const (
	stsService  = "sts"
	stsBody     = "Action=GetCallerIdentity&Version=2011-06-15"
	contentType = "application/x-www-form-urlencoded; charset=utf-8"
	accept      = "application/json"
)

// Bounds of a challenge, in bytes. Fewer could be guessed.
const (
	MinChallenge = 16
	MaxChallenge = 256
)

// Proof is a signed sts:GetCallerIdentity that was not sent: the region it is
// for, and the values of its headers that are not fixed. It is a secret until
// it is old, and hides itself from fmt, slog and json; Encode does not.
type Proof struct {
	Region  string
	Headers map[string]string
}

type wireProof struct {
	Region  string            `json:"region"`
	Headers map[string]string `json:"headers"`
}

// Encode returns the proof as JSON, for its way to the verifier. It fails when
// the proof does not have the form of one.
func (p Proof) Encode() ([]byte, error) {
	if err := p.wellFormed(); err != nil {
		return nil, fmt.Errorf("encode aws proof: %w", err)
	}
	b, err := json.Marshal(wireProof(p))
	if err != nil {
		return nil, fmt.Errorf("encode aws proof: %w", err)
	}
	if len(b) > MaxProof {
		return nil, fmt.Errorf("encode aws proof: %d bytes, the most is %d: the session token is too long", len(b), MaxProof)
	}
	return b, nil
}

// ParseProof reads what Encode wrote, and fails with ErrMalformed. It checks
// the form only: a parsed proof proves nothing yet.
func ParseProof(b []byte) (Proof, error) {
	if len(b) > MaxProof {
		return Proof{}, fmt.Errorf("%w: %d bytes, the most is %d", ErrMalformed, len(b), MaxProof)
	}
	p, err := decodeProof(b)
	if err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := p.wellFormed(); err != nil {
		return Proof{}, err
	}
	return p, nil
}

func decodeProof(b []byte) (Proof, error) {
	r, err := newReader(b)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Headers: map[string]string{}}
	err = r.object(func(name string) error {
		switch name {
		case "region":
			return r.text(&p.Region)
		case "headers":
			return r.object(func(name string) error {
				if !slices.Contains(proofHeaders, name) {
					return unknown(name)
				}
				var v string
				err := r.text(&v)
				p.Headers[name] = v
				return err
			})
		}
		return unknown(name)
	})
	return p, err
}

// wellFormed checks all that can be said without a challenge and a clock. It
// fails with ErrMalformed.
func (p Proof) wellFormed() error {
	if _, err := partitionOf(p.Region); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for name, v := range p.Headers {
		if !slices.Contains(proofHeaders, name) {
			return fmt.Errorf("%w: %w", ErrMalformed, unknown(name))
		}
		if len(v) > MaxProof || !printable(v, name == headerAuthorization) {
			return fmt.Errorf("%w: the value of %s has characters that do not belong there", ErrMalformed, name)
		}
	}
	for _, name := range []string{headerAuthorization, headerDate, headerChallenge} {
		if p.Headers[name] == "" {
			return fmt.Errorf("%w: %s is missing", ErrMalformed, name)
		}
	}
	if v, ok := p.Headers[headerToken]; ok && v == "" {
		return fmt.Errorf("%w: %s is empty", ErrMalformed, headerToken)
	}
	return nil
}

// printable reports whether s is visible ASCII, with single spaces inside if
// those are allowed: no line ends, nothing that is trimmed or folded on its
// way, so that what is checked is what is signed and sent.
func printable(s string, spaces bool) bool {
	for i := range len(s) {
		if s[i] == ' ' && spaces && i > 0 && i < len(s)-1 && s[i-1] != ' ' {
			continue
		}
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// challengeValue is the challenge as its header carries it.
func challengeValue(challenge []byte) (string, error) {
	if len(challenge) < MinChallenge || len(challenge) > MaxChallenge {
		return "", fmt.Errorf("a challenge of %d bytes, it wants %d to %d", len(challenge), MinChallenge, MaxChallenge)
	}
	return base64.RawURLEncoding.EncodeToString(challenge), nil
}

// String tells the region, if it is one, and hides the rest.
func (p Proof) String() string {
	if _, err := partitionOf(p.Region); err != nil {
		return "AWS proof (hidden)"
	}
	return "AWS proof for " + p.Region + " (hidden)"
}

// Format writes String for every verb.
func (p Proof) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue is String.
func (p Proof) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalJSON is String: a proof inside something that is logged stays hidden.
func (p Proof) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

// UnmarshalJSON always fails: ParseProof reads proofs.
func (p *Proof) UnmarshalJSON([]byte) error {
	return errors.New("a proof is read by ParseProof, and written by Encode")
}
