package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drawbridge/agent/api"
	"drawbridge/discovery/cloudtest"
)

// onInstance makes the environment that of an instance with the role.
func onInstance(t *testing.T, cloud *cloudtest.Cloud, role, instance string) {
	t.Helper()
	k := cloudtest.AccessKey{
		ID: "ASIA" + strings.ToUpper(instance[2:]), Secret: "secret of " + instance, Token: "token/of+" + instance + "==",
		ARN: "arn:aws:sts::111122223333:assumed-role/" + role + "/" + instance,
	}
	cloud.AddAccessKey(k)
	for name, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": k.ID, "AWS_SECRET_ACCESS_KEY": k.Secret, "AWS_SESSION_TOKEN": k.Token, "AWS_REGION": cloudtest.DefaultRegion,
		"AWS_PROFILE": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ROLE_ARN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, v)
	}
}

// TestJoinByAWSCommand: commands only, from init to members that see each
// other; a real signature goes to a strict STS.
func TestJoinByAWSCommand(t *testing.T) {
	cloud := cloudtest.New(cloudtest.Options{})
	srv := httptest.NewServer(cloud)
	t.Cleanup(srv.Close)
	t.Setenv(tokenEnv, "")
	t.Setenv(stateDirEnv, "")
	top := t.TempDir()
	gw, port := filepath.Join(top, "gw"), twinPort(t)
	code, out, stderr := call(t, "init", "--mesh", "lab", "--site", "aws", "--name", "gw-a", "--state-dir", gw,
		"--prefix", "192.168.231.0/24", "--listen-port", fmt.Sprint(port), "--endpoint", "127.0.0.1")
	if code != exitOK {
		t.Fatal(stderr)
	}
	_, pin, _ := strings.Cut(out, "Root fingerprint: ")
	pin, _, _ = strings.Cut(pin, "\n")
	gateway, errs := runConfigured(t, gw, "enrolment:", "  sts_endpoint: "+srv.URL, "  aws_iam:",
		`    - {name: web, account: "111122223333", iam_role: "web-*", site: aws, names: ["web-*"]}`)
	join := func(name string) (code int, stdout, stderr string) {
		return call(t, "join", "--method", "aws-iam", "--gateway", fmt.Sprintf("127.0.0.1:%d", port), "--pin", pin,
			"--name", name, "--state-dir", filepath.Join(top, name), "--listen-port", fmt.Sprint(twinPort(t)))
	}

	onInstance(t, cloud, "batch", "i-0123456789abcdef0")
	code, _, stderr = join("web-9")
	refused(t, code, exitFailed, stderr, "no rule is for arn:aws:sts::111122223333:assumed-role/batch/", "look at the host's IAM role")
	if dir := filepath.Join(top, "web-9"); len(contents(t, dir)) != 0 {
		t.Errorf("a host that was refused keeps %v", contents(t, dir))
	}

	sockets := []string{gateway}
	names := []string{"gw-a", "web-1", "web-2"}
	for i, name := range names[1:] {
		onInstance(t, cloud, "web-blue", fmt.Sprintf("i-0123456789abcde%02d", i))
		if code, out, stderr = join(name); code != exitOK || !strings.Contains(out, name+", server of site aws") {
			t.Fatalf("%s joins: %d %s%s", name, code, out, stderr)
		}
		sock, _ := runConfigured(t, filepath.Join(top, name))
		sockets = append(sockets, sock)
	}
	for i, sock := range sockets {
		for _, name := range names {
			if !sees(t, sock, name) {
				t.Errorf("%s does not see %s", names[i], name)
			}
		}
	}
	if text := errs.String(); strings.Contains(text, "Signature=") || strings.Contains(text, "secret of") {
		t.Errorf("the gateway logs a signature:\n%s", text)
	}
}

// sees waits until an agent lists a member as alive.
func sees(t *testing.T, sock, name string) bool {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var ms api.Members
		code, out, _ := call(t, "members", "--json", "--name", name, "--socket", sock)
		if code == exitOK && json.Unmarshal([]byte(out), &ms) == nil && len(ms.Members) == 1 && ms.Members[0].State == "alive" {
			return true
		}
	}
	return false
}
