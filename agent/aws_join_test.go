package agent_test

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"drawbridge/agent"
	"drawbridge/agent/api"
	"drawbridge/agent/config"
	"drawbridge/agent/enroll"
	"drawbridge/agent/history"
	"drawbridge/agent/pki"
	"drawbridge/discovery/awsid"
	"drawbridge/discovery/cloudtest"
)

const awsAccount = "111122223333"

// instanceOf is the key that EC2 gives to an instance with the role.
func instanceOf(c *cloudtest.Cloud, role, instance string) cloudtest.AccessKey {
	k := cloudtest.AccessKey{
		ID: "ASIA" + strings.ToUpper(strings.TrimPrefix(instance, "i-")), Secret: "secret of " + instance, Token: "token/of+" + instance + "==",
		Expires: time.Now().Add(time.Hour), ARN: "arn:aws:sts::" + awsAccount + ":assumed-role/" + role + "/" + instance,
	}
	c.AddAccessKey(k)
	return k
}

// joinByAWS makes h a member by the identity of an instance.
func (h host) joinByAWS(t *testing.T, gw host, k cloudtest.AccessKey) (enroll.Result, error) {
	t.Helper()
	roots := must(open(t, gw.dir).Roots())(t)
	return enroll.Join(t.Context(), enroll.JoinOptions{
		StateDir: h.dir, Name: h.name, ListenPort: h.port, Gateways: []string{gw.endpoint().String()}, Pin: must(pki.Pin(roots[0]))(t),
		Prove: func(ctx context.Context, challenge []byte) ([]byte, error) {
			p, err := awsid.Prove(ctx, awsid.ProveOptions{
				Region: cloudtest.DefaultRegion,
				Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret, SessionToken: k.Token, Expires: k.Expires, CanExpire: true}, nil
				}),
			}, challenge)
			if err != nil {
				return nil, err
			}
			return p.Encode()
		},
	})
}

// TestAWSHostsComeAndGo: hosts join by their AWS role and are members like
// others; whose instance was terminated is put out, and nobody else.
func TestAWSHostsComeAndGo(t *testing.T) {
	t.Parallel()
	cloud := cloudtest.New(cloudtest.Options{})
	srv := httptest.NewServer(cloud)
	t.Cleanup(srv.Close)
	const running, elsewhere, other, denied = "i-0123456789abcdef0", "i-0123456789abcdef1", "i-0123456789abcdef2", "i-0123456789abcdef3"
	cloud.SetInstance(running, "running") // EC2 here knows nothing of elsewhere

	gw := &citizen{host: newHost(t, "gw-a")}
	found(t, gw.host)
	gw.Agent, gw.stop = gw.runPrepared(t, nil, func(s *config.Settings) {
		s.AWS.Region, s.AWS.EndpointURL = cloudtest.DefaultRegion, srv.URL
		s.Enrolment.STSEndpoint, s.Enrolment.EphemeralAfter = srv.URL, time.Second
		s.Enrolment.AWS = []config.AWSRule{{Name: "web", Account: awsAccount, Role: "web-*", Site: "cloud", Names: []string{"web-*"}, Ephemeral: true}}
	}, func(a *agent.Agent) { a.Hurry(time.Second / 2) })
	gw.until(t, "ready", ready("gw-a"))
	w := &town{gateways: []*citizen{gw}, servers: []*citizen{{host: newHost(t, "gpu-1")}}}
	w.servers[0].mustJoin(t, gw.token(t, enroll.TokenOptions{}))

	// Who must not come in.
	stranger := cloudtest.AccessKey{ID: "ASIASTRANGER", Secret: "guessed", Token: "guessed", ARN: "arn:aws:sts::" + awsAccount + ":assumed-role/web-blue/" + denied}
	for _, tt := range []struct {
		name string
		host string
		key  cloudtest.AccessKey
		code enroll.Code
	}{
		{"another role", "web-9", instanceOf(cloud, "batch", other), enroll.CodeBadAWS},
		{"another name", "gpu-9", instanceOf(cloud, "web-blue", denied), enroll.CodeOtherName},
		{"keys that AWS does not know", "web-9", stranger, enroll.CodeBadAWS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newHost(t, tt.host).joinByAWS(t, gw.host, tt.key)
			wantCode(t, err, tt.code)
			gw.told(t, "the refusal", func(e history.Event) bool {
				return e.Kind == "enrolment-refused" && strings.Contains(e.Subject, tt.host) && e.Reason == string(tt.code)
			})
		})
	}

	for i, instance := range []string{running, elsewhere} {
		h := newHost(t, "web-"+string(rune('1'+i)))
		res, err := h.joinByAWS(t, gw.host, instanceOf(cloud, "web-blue", instance))
		if err != nil || res.Site != "cloud" || res.Role != "server" {
			t.Fatalf("%s joins: %+v, %v", h.name, res, err)
		}
		w.servers = append(w.servers, &citizen{host: h})
	}
	for _, c := range w.servers {
		c.start(t)
	}
	w.whole(t)
	gpu, first, second := w.servers[0], w.servers[1], w.servers[2]

	// asked waits for so many calls to EC2. A question about both instances is
	// three calls: both, the one that exists, the one that does not.
	asked := func(calls int, what string) {
		t.Helper()
		count := func() (n int) {
			for _, c := range cloud.Calls() {
				if c.Action == "DescribeInstances" {
					n++
				}
			}
			return n
		}
		before := count()
		eventually(t, 20*time.Second, "EC2 was asked while "+what, func() bool { return count() >= before+calls })
	}
	asked(3, "all run")
	cloud.SetInstance(running, "terminated")
	asked(6, "the terminated one lives") // EC2 is mistaken: who lives stays
	for _, c := range []*citizen{gw, gpu} {
		if !memberIs("web-1", "alive")(c.status(t)) {
			t.Errorf("%s put out a node that lives", c.name)
		}
	}
	at := time.Now()
	first.stop()
	second.stop()
	for _, c := range []*citizen{gw, gpu} {
		c.until(t, "web-1 is out", noMember("web-1"))
	}
	t.Logf("put out after %s", time.Since(at).Round(100*time.Millisecond))
	if !slices.ContainsFunc(gw.trust(t).Notices, func(n api.Notice) bool {
		return n.Name == "web-1" && n.Kind == "revoked" && n.Reason == "terminated"
	}) {
		t.Errorf("notices %+v, want web-1 revoked as terminated", gw.trust(t).Notices)
	}
	gw.told(t, "the revocation", func(e history.Event) bool {
		return e.Kind == "revoked" && e.Reason == "terminated" && strings.Contains(e.Subject, "web-1")
	})
	eventually(t, 10*time.Second, "no tunnel to it is left", func() bool {
		for _, p := range gw.Plan().Peers {
			if p.Key == first.Self().WireGuard {
				return false
			}
		}
		return true
	})
	asked(2, "an instance of another account is silent")
	if noMember("web-2")(gw.status(t)) {
		t.Error("web-2 is out: EC2 never showed its instance")
	}
}
