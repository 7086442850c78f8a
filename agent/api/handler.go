package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"drawbridge/agent/decide"
)

// callsTimeout bounds the readings of AWS behind /v1/plan.
const callsTimeout = 30 * time.Second

// handler is every request there is. GET only reads; POST is a command.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/members", s.members)
	mux.HandleFunc("GET /v1/why", s.why)
	mux.HandleFunc("GET /v1/plan", s.plan)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/trust", s.trust)
	mux.HandleFunc("POST /v1/revoke", s.command(Commands.Revoke))
	mux.HandleFunc("POST /v1/quarantine", s.command(Commands.Quarantine))
	mux.HandleFunc("POST /v1/release", s.command(Commands.Release))
	mux.HandleFunc("POST /v1/notice", s.command(Commands.Publish))
	mux.HandleFunc("POST /v1/leave", s.command(Commands.Leave))
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("/", s.other)
	return mux
}

// other refuses what is not a request of this API.
func (s *Server) other(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		s.refuse(w, http.StatusMethodNotAllowed, Error{
			Code: "read-only", Message: r.Method + " " + r.URL.Path + " is refused: it is not a command",
			Next: "compare the versions of this command and of the agent",
		})
		return
	}
	s.refuse(w, http.StatusNotFound, Error{
		Code: "no-such-request", Message: r.URL.Path + " is not part of this API",
		Next: "compare the versions of this command and of the agent",
	})
}

func (s *Server) moment() moment { return gather(time.Now(), s.opts.Source) }

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, statusOf(s.moment()))
}

func (s *Server) members(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, Members{SchemaVersion: SchemaVersion, Members: membersOf(s.moment())})
}

func (s *Server) trust(w http.ResponseWriter, _ *http.Request) {
	t := s.opts.Source.Trust()
	t.SchemaVersion = SchemaVersion
	s.answer(w, http.StatusOK, t)
}

func (s *Server) why(w http.ResponseWriter, r *http.Request) {
	subject := r.URL.Query().Get("subject")
	m := s.moment()
	switch {
	case subject == "":
		s.refuse(w, http.StatusBadRequest, Error{Code: "no-subject", Message: "no subject given", Next: subjectsOf(m)})
		return
	case !m.decided || s.opts.Explain == nil:
		s.refuse(w, http.StatusServiceUnavailable, Error{
			Code: "no-decision", Message: "there is no decision to explain yet", Next: "ask again in a second",
		})
		return
	}
	lines, ok := s.opts.Explain(m.plan, m.snap, subject)
	if !ok {
		s.refuse(w, http.StatusNotFound, Error{
			Code: "unknown-subject", Message: fmt.Sprintf("nothing is called %q", subject), Next: subjectsOf(m),
		})
		return
	}
	if lines == nil {
		lines = []string{}
	}
	s.answer(w, http.StatusOK, Why{SchemaVersion: SchemaVersion, Subject: subject, Lines: lines})
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callsTimeout)
	defer cancel()
	p, err := planOf(ctx, s.moment(), s.opts.Source)
	if err != nil {
		s.refuse(w, http.StatusBadGateway, Error{
			Code: "aws-unread", Message: "plan AWS calls: " + err.Error(),
			Next: "a plan needs to read AWS: check credentials and network of this node",
		})
		return
	}
	s.answer(w, http.StatusOK, p)
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	var since uint64
	if q := r.URL.Query().Get("since"); q != "" {
		n, err := strconv.ParseUint(q, 10, 64)
		if err != nil {
			s.refuse(w, http.StatusBadRequest, Error{
				Code: "bad-since", Message: fmt.Sprintf("since is not a number: %q", q),
				Next: "give the number of the last event you have, or 0",
			})
			return
		}
		since = n
	}
	out := Events{SchemaVersion: SchemaVersion, Events: s.opts.Source.Events(since)}
	if out.Events == nil {
		out.Events = []Event{}
	}
	out.Last = since
	if n := len(out.Events); n > 0 {
		out.Last = out.Events[n-1].Seq
	}
	s.answer(w, http.StatusOK, out)
}

// livez says that the process answers, no more.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	state := judge(s.moment()).state
	s.answer(w, http.StatusOK, Check{SchemaVersion: SchemaVersion, OK: true, State: state, Reasons: []string{}})
}

// readyz says whether the agent can carry traffic.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	c := checkOf(s.moment())
	code := http.StatusOK
	if !c.OK {
		code = http.StatusServiceUnavailable
	}
	s.answer(w, code, c)
}

func (s *Server) refuse(w http.ResponseWriter, code int, e Error) {
	e.Status = code
	s.answer(w, code, failure{SchemaVersion: SchemaVersion, Error: &e})
}

func (s *Server) answer(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.opts.Logger.Error("encode answer", "err", err)
		http.Error(w, "encode answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if _, err := w.Write(append(b, '\n')); err != nil {
		s.opts.Logger.Debug("write answer", "err", err)
	}
}

// subjectsOf lists what /v1/why can be asked about.
func subjectsOf(m moment) string {
	parts := []string{
		list("routes", m.plan.Routes, func(r decide.RouteStatus) string { return r.Route }),
		list("sites", m.plan.Sites, func(s decide.SiteStatus) string { return s.Site }),
		list("nodes", membersOf(m), func(n Member) string { return n.Name }),
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	if len(parts) == 0 {
		return "nothing is known yet; ask again in a second"
	}
	return "ask about " + strings.Join(parts, "; ")
}

// list names at most eight things, so that an error stays a few lines.
func list[T any](kind string, items []T, name func(T) string) string {
	const most = 8
	var names []string
	for _, it := range items {
		names = append(names, name(it))
	}
	if len(names) == 0 {
		return ""
	}
	if n := len(names); n > most {
		names = append(names[:most], fmt.Sprintf("and %d more", n-most))
	}
	return kind + " " + strings.Join(names, ", ")
}
