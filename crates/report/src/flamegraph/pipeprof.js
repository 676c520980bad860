// Search means the function, under its own name and the one it is known by. A role is searched for
// in capitals, by a click on the legend.
function g_to_func(g) {
    var name = g.getAttribute("fg:name");
    return name === null ? g_to_text(g) : name;
}
window.addEventListener("click", function(e) {
    var key = e.target.closest ? e.target.closest("#legend .key") : null;
    if (!key) return;
    var role = key.getAttribute("fg:role");
    var term = "\\n" + role + "$";
    var again = searching && get_params().s === term;
    if (searching) search_prompt();
    if (again) return;
    search(term);
    // A frame counts whole in a search, with all that it called; the legend has the role's share.
    if (searching) matchedtxt.firstChild.nodeValue = key.querySelector("text").textContent;
}, false);
// The legend is laid out for a window as wide as the static picture: it shrinks with a narrower one.
function fit_legend() {
    var legend = document.getElementById("legend");
    var top = parseFloat(legend.getAttribute("fg:top"));
    var width = document.documentElement.clientWidth || window.innerWidth;
    var scale = Math.min(1, width / parseFloat(legend.getAttribute("fg:width")));
    legend.setAttribute("transform",
        "translate(0 " + top + ") scale(" + scale + ") translate(0 " + -top + ")");
}
window.addEventListener("load", fit_legend, false);
window.addEventListener("resize", fit_legend, false);
