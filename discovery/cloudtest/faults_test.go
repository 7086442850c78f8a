package cloudtest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaults(t *testing.T) {
	c := New(Options{})
	s := seed(t, c, twoSides())
	describe := func() answer { return elb(t, c, "DescribeRules", "RuleArns.member.1", s.Rule) }

	c.Inject(Fault{Action: "DescribeRules", Code: "Throttling", Count: 2})
	c.Inject(Fault{Action: "ModifyRule", Code: "InternalFailure", HTTPStatus: 500, AfterEffect: true})
	for range 2 {
		if got := describe(); got.Code != "Throttling" || got.Status != 400 || got.Message != "Rate exceeded" {
			t.Errorf("%+v", got)
		}
	}
	if got := describe(); got.Code != "" {
		t.Errorf("the fault is not used up: %+v", got)
	}
	if got := weigh(t, c, s.Rule, s.Groups["aws"], 5); got.Status != 500 {
		t.Errorf("%+v", got)
	}
	if got := describe().Body; !strings.Contains(got, "<Weight>5</Weight>") {
		t.Errorf("the effect was lost: %s", got)
	}
	c.Inject(Fault{Garbage: "<html>", Count: -1})
	for range 3 {
		if got := describe(); got.Body != "<html>" || got.Status != 200 {
			t.Errorf("%+v", got)
		}
	}
	c.ClearFaults()
	if got := describe(); got.Code != "" || !strings.Contains(got.Body, "DescribeRulesResult") {
		t.Errorf("%+v", got)
	}
	calls := c.Calls()
	if n := len(calls); n != 9 || calls[0].Code != "Throttling" || calls[3].Action != "ModifyRule" || calls[3].Params.Get("RuleArn") != s.Rule {
		t.Errorf("%d calls: %+v", n, calls)
	}
}

func TestFaultDropAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{})
		s := seed(t, c, twoSides())
		c.Inject(Fault{Action: "DescribeRules", Drop: true})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(url.Values{
			"Action": {"DescribeRules"}, "Version": {"2015-12-01"}, "RuleArns.member.1": {s.Rule},
		}.Encode()))
		sign(r, "elasticloadbalancing")
		func() {
			defer func() {
				if recover() != http.ErrAbortHandler { //nolint:errorlint // a panic value
					t.Error("an answer was given")
				}
			}()
			c.ServeHTTP(httptest.NewRecorder(), r)
		}()
		c.Inject(Fault{Delay: 2 * time.Second})
		start := time.Now()
		if got := elb(t, c, "DescribeRules", "RuleArns.member.1", s.Rule); got.Code != "" || time.Since(start) != 2*time.Second {
			t.Errorf("%+v after %v", got, time.Since(start))
		}
	})
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Throttle: true})
		s := seed(t, c, twoSides())
		refused := func(n int) (m int) {
			for i := range n {
				if weigh(t, c, s.Rule, s.Groups["aws"], i+1).Code == "Throttling" {
					m++
				}
			}
			return m
		}
		if got := refused(25); got != 5 { // burst 20
			t.Errorf("%d of 25 were throttled", got)
		}
		time.Sleep(2 * time.Second) // 3 a second
		if got := refused(8); got != 2 {
			t.Errorf("%d of 8 were throttled", got)
		}
		if got := elb(t, c, "DescribeRules", "RuleArns.member.1", s.Rule); got.Code != "" {
			t.Errorf("another bucket is empty: %+v", got)
		}
	})
}

func FuzzForm(f *testing.F) {
	f.Add("Action=ModifyRule&RuleArn=x&Actions.member.1.Type=forward&Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight=1")
	f.Add("Action=RegisterTargets&Targets.member.99999999999.Id=1")
	f.Add("Action=DescribeRouteTables&RouteTableId.1=rtb-a&Filter.1.Name=vpc-id&Filter.1.Value.1=x")
	f.Add("Action=CreateRoute&RouteTableId=rtb-a&DestinationCidrBlock=1.2.3.4/5&NetworkInterfaceId=eni-1")
	f.Add("Action=ModifyListener&ListenerArn=l&DefaultActions.member.-1.Type=x")
	f.Fuzz(func(t *testing.T, body string) {
		c := New(Options{})
		s := seed(t, c, twoSides())
		for svc := range services {
			vals, err := url.ParseQuery(body)
			if err != nil {
				return
			}
			vals.Set("Version", services[svc].version)
			for k, v := range vals { // reach behind the look-ups
				switch v[0] {
				case "RULE":
					vals.Set(k, s.Rule)
				case "GROUP":
					vals.Set(k, s.Groups["idc"])
				case "LISTENER":
					vals.Set(k, s.Listener)
				}
			}
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(vals.Encode()))
			sign(r, svc)
			send(t, c, r)
		}
		hit(c.Balancer(s.LoadBalancer), 0)
		if got := elb(t, c, "DescribeRules", "ListenerArn", s.Listener); got.Code != "" {
			t.Fatalf("%+v", got)
		}
	})
}
