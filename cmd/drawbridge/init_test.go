package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"drawbridge/agent/enroll"
	"drawbridge/agent/statedir"
)

// enrolRun runs one verb as the root would.
func enrolRun(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "drawbridge", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(initCommand(), tokenCommand(), joinCommand())
	var out, errs bytes.Buffer
	root.SetArgs(args)
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

// serveEnrolment is the gateway's part of the agent.
func serveEnrolment(t *testing.T, state string, change ...func(*enroll.Options)) string {
	t.Helper()
	dir, err := statedir.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	o := enroll.Options{Dir: dir}
	for _, c := range change {
		c(&o)
	}
	go func() { done <- enroll.NewServer(o).Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func TestInitTokenJoin(t *testing.T) {
	gw, host := filepath.Join(t.TempDir(), "gw"), filepath.Join(t.TempDir(), "host")
	t.Setenv(stateDirEnv, gw)
	t.Setenv(tokenEnv, "")
	out, _, err := enrolRun(t, "", "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--prefix", "192.168.231.0/24", "--endpoint", "203.0.113.9")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Made mesh lab", "192.168.231.1", "lab.mesh", "sha256:", "drawbridge token create"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if _, _, err := enrolRun(t, "", "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--prefix", "192.168.231.0/24"); !errors.Is(err, statedir.ErrInUse) {
		t.Errorf("second init: %v", err)
	}
	addr := serveEnrolment(t, gw)
	token, errs, err := enrolRun(t, "", "token", "create", "--site", "idc", "--addr", addr)
	if err != nil || errs != "" || !strings.HasPrefix(token, "dbt1_") || strings.Count(token, "\n") != 1 {
		t.Fatalf("got %q, %q, %v: want the token and nothing else", token, errs, err)
	}
	out, _, err = enrolRun(t, token, "join", "--name", "gpu-1", "--state-dir", host)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Joined mesh lab", "through gw-a", "gpu-1, server of site idc", "192.168.231.2", "drawbridge status"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, _, err = enrolRun(t, token, "join", "--name", "gpu-1", "--state-dir", host)
	if err != nil || !strings.Contains(out, "Already joined") {
		t.Errorf("again: %q, %v", out, err)
	}
	_, _, err = enrolRun(t, token, "join", "--name", "gpu-2", "--state-dir", host+"2")
	if !errors.Is(err, &enroll.Error{Code: enroll.CodeUsedUp}) {
		t.Errorf("replayed: %v", err)
	}
	out, _, err = enrolRun(t, "", "token", "list")
	if err != nil || !strings.Contains(out, "used") || !strings.Contains(out, "gpu-1") || strings.Contains(out, "dbt1_") {
		t.Errorf("list: %q, %v", out, err)
	}
}

func TestOfflineRootFlag(t *testing.T) {
	gw, root := filepath.Join(t.TempDir(), "gw"), filepath.Join(t.TempDir(), "root")
	out, _, err := enrolRun(t, "", "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--state-dir", gw, "--offline-root", root)
	if err != nil || !strings.Contains(out, "Root key: "+root) || strings.Contains(out, "root.key") {
		t.Fatalf("%s, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(root, "root.key")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(gw, "root.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("root key in the state directory: %v", err)
	}
	if _, _, err := enrolRun(t, "", "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--state-dir", gw+"2", "--offline-root", filepath.Join(gw+"2", "root")); err == nil {
		t.Error("the root key inside the state directory")
	}
}

func TestTokenTerms(t *testing.T) {
	gw := filepath.Join(t.TempDir(), "gw")
	t.Setenv(stateDirEnv, gw)
	t.Setenv(tokenEnv, "")
	if _, err := enroll.Init(enroll.InitOptions{StateDir: gw, Mesh: "lab", Site: "aws", Name: "gw-a"}); err != nil {
		t.Fatal(err)
	}
	addr := serveEnrolment(t, gw)
	out, _, err := enrolRun(t, "", "token", "create", "--site", "idc", "--addr", addr, "--name", "gpu-*", "--source", "127.0.0.1", "--source", "10.0.0.0/8",
		"--ephemeral", "--require-approval", "--replace", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var tok tokenJSON
	if err := json.Unmarshal([]byte(out), &tok); err != nil || !tok.Ephemeral || !tok.Approval || !tok.Replace ||
		strings.Join(tok.Names, " ") != "gpu-*" || strings.Join(tok.Sources, " ") != "127.0.0.1/32 10.0.0.0/8" {
		t.Errorf("%s, %v", out, err)
	}
	// Nobody approves it in time; then somebody does.
	host := filepath.Join(t.TempDir(), "host")
	_, errs, err := enrolRun(t, tok.Token, "join", "--name", "gpu-1", "--state-dir", host, "--wait", "1ms")
	if !errors.Is(err, &enroll.Error{Code: enroll.CodePending}) {
		t.Fatalf("%s, %v", errs, err)
	}
	waiting, err := enroll.ListPending(gw)
	if err != nil || len(waiting) != 1 || strings.Count(errs, "approve "+waiting[0].Fingerprint) != 1 {
		t.Fatalf("%+v, %v; shown: %s", waiting, err, errs)
	}
	if out, _, err := enrolRun(t, "", "token", "list"); err != nil || !strings.Contains(out, "gpu-1?") ||
		!strings.Contains(out, "name=gpu-*,from=127.0.0.1/32|10.0.0.0/8,ephemeral,approval,replace") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := enroll.Approve(gw, waiting[0].Fingerprint, "user alice"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := enrolRun(t, tok.Token, "join", "--name", "gpu-1", "--state-dir", host); err != nil {
		t.Error(err)
	}
	out, _, err = enrolRun(t, "", "token", "create", "--site", "idc", "--addr", addr, "--name", "gpu-*")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := enrolRun(t, out, "join", "--name", "web-1", "--state-dir", t.TempDir()); !errors.Is(err, &enroll.Error{Code: enroll.CodeOtherName}) {
		t.Errorf("got %v", err)
	}
}

func TestJoinByAWSIdentity(t *testing.T) {
	gw, host := filepath.Join(t.TempDir(), "gw"), filepath.Join(t.TempDir(), "host")
	t.Setenv(tokenEnv, "")
	out, _, err := enrolRun(t, "", "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--state-dir", gw)
	if err != nil {
		t.Fatal(err)
	}
	_, pin, _ := strings.Cut(out, "Root fingerprint: ")
	pin, _, _ = strings.Cut(pin, "\n")
	addr := serveEnrolment(t, gw, func(o *enroll.Options) {
		o.AWSRules = []enroll.AWSRule{{Account: "123456789012", Role: "gpu", Site: "aws"}}
		o.AWS = func(_ context.Context, proof, challenge []byte) (enroll.AWSCaller, error) {
			if !bytes.Equal(proof, challenge) {
				return enroll.AWSCaller{}, errors.New("another challenge")
			}
			return enroll.AWSCaller{Account: "123456789012", Partition: "aws", Role: "gpu", Session: "x"}, nil
		}
	})
	old := proveAWS
	proveAWS = func(_ context.Context, challenge []byte) ([]byte, error) { return challenge, nil }
	defer func() { proveAWS = old }()
	for range 2 {
		out, _, err = enrolRun(t, "", "join", "--method", "aws-iam", "--gateway", addr, "--pin", pin, "--name", "gpu-1", "--state-dir", host)
		if err != nil || !strings.Contains(out, "gpu-1") || !strings.Contains(out, "oined") {
			t.Fatalf("%s, %v", out, err)
		}
	}
	for name, args := range map[string][]string{
		"no pin":           {"--method", "aws-iam", "--gateway", addr},
		"bad pin":          {"--method", "aws-iam", "--gateway", addr, "--pin", "sha256:abcd"},
		"no gateway":       {"--method", "aws-iam", "--pin", pin},
		"token file":       {"--method", "aws-iam", "--gateway", addr, "--pin", pin, "--token-file", "x"},
		"unknown method":   {"--method", "magic"},
		"pin with a token": {"--pin", pin},
	} {
		if _, _, err := enrolRun(t, "", append([]string{"join", "--name", "gpu-2", "--state-dir", t.TempDir()}, args...)...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTokenSources(t *testing.T) {
	gw := filepath.Join(t.TempDir(), "gw")
	t.Setenv(tokenEnv, "")
	if _, err := enroll.Init(enroll.InitOptions{StateDir: gw, Mesh: "lab", Site: "aws", Name: "gw-a"}); err != nil {
		t.Fatal(err)
	}
	addr := serveEnrolment(t, gw)
	out, _, err := enrolRun(t, "", "token", "create", "--site", "idc", "--uses", "3", "--json", "--addr", addr, "--state-dir", gw)
	if err != nil {
		t.Fatal(err)
	}
	var tok tokenJSON
	if err := json.Unmarshal([]byte(out), &tok); err != nil || tok.SchemaVersion != 1 || tok.Uses != 3 || tok.Site != "idc" || tok.Token == "" {
		t.Fatalf("got %s, %v", out, err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(tok.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("file", func(t *testing.T) {
		if _, _, err := enrolRun(t, "rubbish", "join", "--token-file", file, "--name", "a", "--state-dir", t.TempDir()); err != nil {
			t.Error(err)
		}
	})
	t.Run("dash", func(t *testing.T) {
		t.Setenv(tokenEnv, "rubbish")
		if _, _, err := enrolRun(t, tok.Token, "join", "--token-file", "-", "--name", "b", "--state-dir", t.TempDir()); err != nil {
			t.Error(err)
		}
	})
	t.Run("environment", func(t *testing.T) {
		t.Setenv(tokenEnv, tok.Token)
		if _, _, err := enrolRun(t, "rubbish", "join", "--name", "c", "--state-dir", t.TempDir()); err != nil {
			t.Error(err)
		}
	})
	t.Run("argument", func(t *testing.T) {
		_, _, err := enrolRun(t, "", "join", tok.Token)
		if err == nil || strings.Contains(err.Error(), tok.Token) {
			t.Errorf("got %v", err)
		}
		_, _, err = enrolRun(t, "", "token", "revoke", tok.Token, "--state-dir", gw)
		if err == nil || strings.Contains(err.Error(), tok.Token) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too long", func(t *testing.T) {
		if _, _, err := enrolRun(t, strings.Repeat("x", 1<<20), "join", "--name", "d", "--state-dir", t.TempDir()); err == nil || len(err.Error()) > 300 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		if _, _, err := enrolRun(t, "", "token", "revoke", tok.ID, "--state-dir", gw); err != nil {
			t.Fatal(err)
		}
		_, _, err := enrolRun(t, tok.Token, "join", "--name", "e", "--state-dir", t.TempDir())
		if !errors.Is(err, &enroll.Error{Code: enroll.CodeRevoked}) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEnrolmentUsage(t *testing.T) {
	t.Setenv(stateDirEnv, t.TempDir())
	t.Setenv(tokenEnv, "")
	for name, args := range map[string][]string{
		"no mesh":      {"init", "--site", "aws"},
		"bad prefix":   {"init", "--mesh", "lab", "--site", "aws", "--prefix", "x"},
		"bad source":   {"token", "create", "--site", "idc", "--source", "x"},
		"bad endpoint": {"init", "--mesh", "lab", "--site", "aws", "--endpoint", "0.0.0.0:1"},
		"no site":      {"token", "create"},
		"no token":     {"join", "--token-file", "/nonexistent"},
		"empty":        {"join"},
	} {
		if _, _, err := enrolRun(t, "", args...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
